"""Objects of stacks and movies: linked through planes, filled between planes, followed."""
