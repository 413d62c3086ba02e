"""Object maps, and the objects in them."""
