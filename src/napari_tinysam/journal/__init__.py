"""What was done to an image, on disk as it happens, so that a crash loses nothing.

A journal belongs to one labels layer of one image, in one process. It is a folder with a file of
lines (`lines`), the labels that the lines begin with (`snapshot`), and a lock. `writing` appends,
`reading` makes labels and actions of it again, `folder` keeps all journals of the user, `identity`
finds the one of an image. Nothing of the image itself is kept but a hash.
"""
