"""Labels are made again from their provenance, with the same model or another one.

`image` reads the planes as the session did, `again` runs the actions, `comparison` tells how far
the new labels agree with the old ones, `as_training` makes training data of what the user did.
"""
