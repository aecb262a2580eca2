import json, pytest
def test_x(open_page, some_runs):
    for p in ("","roc","angles","map","training","photos"):
        for b in ("people","train"):
            at=open_page(p,benchmark=b)
            print(p,b,[x.value for x in at.title],[e.message for e in at.exception],[w.value for w in at.warning],[i.value for i in at.info],len(at.get("plotly_chart")), dict(at.query_params))
    at=open_page("")
    d=at.dataframe[0].proto
    print(type(d), d.DESCRIPTOR.full_name, at.dataframe[0].value.T)
    print([f.name for f in d.DESCRIPTOR.fields]); print(str(d.arrow_data.styler)[:1500])
    for q in ({"run":"nosuch"},{"benchmark":"nosuch"},{"runs":"/no/such"},{"runs":"~nouser/x"},{"runs":"x"*5000},{"runs":"a\0b"},{"run":["tiny-softmax"]},{"runs":""}):
        at=open_page("",**q)
        print(str(q)[:60],[x.value for x in at.title],[e.message for e in at.exception], at.multiselect[0].value, at.selectbox[0].value, str(dict(at.query_params))[:100])
    for q in ({"photos":"bogus"},{"photos":"Pick a pair from the benchmark","kind":"bogus","order":"x","pair":"999999"},{"photos":"Pick a pair from the benchmark","pair":"abc"},{"photos":"Pick a pair from the benchmark","pair":"-3"}):
        at=open_page("photos",**q)
        print(q,[x.value for x in at.title],[e.message for e in at.exception],[w.value for w in at.warning], [n.value for n in at.number_input],[m.value for m in at.metric])
    at=open_page("training",curve="bogus"); print([e.message for e in at.exception])
    at=open_page("photos"); print(at.file_uploader)
