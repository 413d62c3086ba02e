"""Objects of frames become tracks of a movie."""
