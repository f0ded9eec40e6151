"""Known ways out of a container, tried: each test runs the attack itself and asserts that it fails and that nothing outside has changed."""
