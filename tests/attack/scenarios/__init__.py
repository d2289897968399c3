"""Attacks, by what they are aimed at. Every file here is found automatically."""
