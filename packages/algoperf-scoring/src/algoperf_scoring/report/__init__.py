"""A leaderboard as a page."""
