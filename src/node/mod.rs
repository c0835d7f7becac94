//! The pure half of the agent.
