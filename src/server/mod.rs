//! The leader's loops: they carry values between the rooms.
