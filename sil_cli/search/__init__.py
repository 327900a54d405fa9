"""Query: from pictures of a person to matches, a contact sheet and a page."""
