"""What tests of Contest and of its plugins are made of: implementations in memory, and a clock that does not wait."""
