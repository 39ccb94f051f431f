"""The web page of ``marssep serve``: `make_app`, and `server` that runs it."""
