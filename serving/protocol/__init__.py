"""Wire types and bodies that we touch. Fields that are only passed on are not described further than their name."""
