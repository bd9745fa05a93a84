"""The fault harness: real processes, a real server, and a seeded agent of chaos between them. See README.md here."""
