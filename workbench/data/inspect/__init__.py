"""Looking at data: a description in words, and a contact sheet."""
