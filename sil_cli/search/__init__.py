"""Search: from images of a person to matches, a contact sheet and a page."""
