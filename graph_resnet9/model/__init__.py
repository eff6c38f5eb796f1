"""The network, its loss and its optimiser: functions that add ops."""
