"""From footage to crops: frames of videos, the people in them, and who is who within a camera."""
