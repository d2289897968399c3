"""The attacks, by what they are aimed at. Every file here is found by itself."""
