//! Quantities: `quantity('500m')` (kubernetes.io/docs/reference/using-api/cel).

use std::cmp::Ordering;

use super::{Failure, Function, Meter, Shape, Value, global, member, text};
use crate::model::Quantity as Amount;

use Shape::{Bool, Double, Int, Quantity, Text};

pub(super) const FUNCTIONS: &[Function] = &[
    global("quantity", &[Text], Quantity, |args, _| {
        let amount = Amount::parse(text(args, 0)?);
        amount.map(Value::Quantity).map_err(|error| Failure::other(error.to_string()))
    }),
    global("isQuantity", &[Text], Bool, |args, _| {
        Ok(Value::Bool(Amount::parse(text(args, 0)?).is_ok()))
    }),
    member("sign", &[Quantity], Int, |args, _| {
        Ok(Value::Int(amount(args, 0)?.cmp(&Amount::ZERO) as i64))
    }),
    member("isInteger", &[Quantity], Bool, |args, _| {
        Ok(Value::Bool(whole(amount(args, 0)?).is_some()))
    }),
    member("asInteger", &[Quantity], Int, |args, _| {
        let number = whole(amount(args, 0)?).map(Value::Int);
        number.ok_or_else(|| Failure::other("cannot convert value to integer"))
    }),
    member("asApproximateFloat", &[Quantity], Double, |args, _| {
        let amount = amount(args, 0)?;
        let number = match whole(amount) {
            Some(number) => number as f64,
            None => amount.as_milli() as f64 / 1000.0,
        };
        Ok(Value::Double(number))
    }),
    member("add", &[Quantity, Quantity], Quantity, |args, _| {
        Ok(Value::Quantity(amount(args, 0)?.plus(amount(args, 1)?)))
    }),
    member("add", &[Quantity, Int], Quantity, |args, _| {
        Ok(Value::Quantity(amount(args, 0)?.plus(amount(args, 1)?)))
    }),
    member("sub", &[Quantity, Quantity], Quantity, |args, _| {
        Ok(Value::Quantity(amount(args, 0)?.minus(amount(args, 1)?)))
    }),
    member("sub", &[Quantity, Int], Quantity, |args, _| {
        Ok(Value::Quantity(amount(args, 0)?.minus(amount(args, 1)?)))
    }),
    member("isLessThan", &[Quantity, Quantity], Bool, |args, meter| {
        is(args, Ordering::Less, meter)
    }),
    member("isGreaterThan", &[Quantity, Quantity], Bool, |args, meter| {
        is(args, Ordering::Greater, meter)
    }),
    member("compareTo", &[Quantity, Quantity], Int, |args, _| {
        Ok(Value::Int(amount(args, 0)?.cmp(&amount(args, 1)?) as i64))
    }),
];

fn amount(args: &[Value<'_>], index: usize) -> Result<Amount, Failure> {
    match args.get(index) {
        Some(Value::Quantity(amount)) => Ok(*amount),
        Some(Value::Int(number)) => Ok(Amount::units(*number)),
        _ => Err(Failure::no_overload()),
    }
}

/// The amount as a whole number, if it is one that fits.
fn whole(amount: Amount) -> Option<i64> {
    let units = amount.as_units();
    (Amount::units(units) == amount).then_some(units)
}

fn is<'a>(args: &[Value<'a>], wanted: Ordering, _: &mut Meter) -> Result<Value<'a>, Failure> {
    Ok(Value::Bool(amount(args, 0)?.cmp(&amount(args, 1)?) == wanted))
}
