"""The project's benchmark: Contest beside yardsticks taken in the same run. `contest bench` shows it."""
