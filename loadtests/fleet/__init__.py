"""What the drills of a fleet share: a server of echo replicas, and streams whose every end is known."""
