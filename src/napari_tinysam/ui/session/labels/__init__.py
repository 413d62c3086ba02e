"""The labels layers that objects go to: written, changed, saved."""
