//! The half of the agent that touches the machine.
