"""What a picture is turned into, and what learns from it to name its source or class."""
