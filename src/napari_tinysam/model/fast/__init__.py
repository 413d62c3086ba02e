"""The same networks, computed in a faster order."""
