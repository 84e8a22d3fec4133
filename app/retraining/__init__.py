"""The parts of Retrain: what is asked for, what was trained, what came of it."""
