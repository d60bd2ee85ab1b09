"""The object a command returns and its views."""
