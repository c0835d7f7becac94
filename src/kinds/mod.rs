//! What mainstay knows of each Kubernetes kind, in one registry.

use crate::model::{Object, Problem};
/// x
#[derive(Debug)]
pub struct FieldError {
    /// f
    pub field: String,
    /// d
    pub detail: String,
}
impl FieldError {
    /// x
    pub fn into_problem(self) -> Problem {
        Problem { field: self.field, message: self.detail, ..Problem::default() }
    }
}
/// x
pub fn update(_live: &Object, new: Object) -> Result<Object, Vec<FieldError>> {
    Ok(new)
}
/// x
pub fn decodes(_object: &Object) -> bool {
    true
}
