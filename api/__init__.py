"""The trade's vocabulary, and everything that touches a venue. Imports nothing else of ours."""
