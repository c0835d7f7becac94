//! Lists, sets, optionals, and numbers of which the greatest is wanted.

use std::cmp::Ordering;

use super::{Failure, Function, Meter, Shape, Value, count, global, int, items, member};

use Shape::{Any, Bool, Double, Inner, Int, List, Optional, OptionalInner, OptionalSame, Same};

pub(super) const FUNCTIONS: &[Function] = &[
    member("isSorted", &[List], Bool, is_sorted),
    member("sum", &[List], Inner, sum),
    member("min", &[List], Inner, |args, meter| end(args, 0, Ordering::Less, meter)),
    member("max", &[List], Inner, |args, meter| end(args, 0, Ordering::Greater, meter)),
    member("indexOf", &[List, Any], Int, |args, meter| place(args, false, meter)),
    member("lastIndexOf", &[List, Any], Int, |args, meter| place(args, true, meter)),
    member("slice", &[List, Int, Int], Same, slice),
    member("reverse", &[List], Same, |args, meter| {
        Ok(Value::list(items(args, 0, meter)?.into_iter().rev().collect()))
    }),
    member("distinct", &[List], Same, distinct),
    member("sort", &[List], Same, sort),
    member("flatten", &[List], List, flatten),
    member("first", &[List], OptionalInner, |args, meter| {
        Ok(Value::optional(items(args, 0, meter)?.into_iter().next()))
    }),
    member("last", &[List], OptionalInner, |args, meter| {
        Ok(Value::optional(items(args, 0, meter)?.pop()))
    }),
    global("sets.contains", &[List, List], Bool, |args, meter| {
        Ok(Value::Bool(holds_all(args, 0, 1, meter)?))
    }),
    global("sets.equivalent", &[List, List], Bool, |args, meter| {
        Ok(Value::Bool(holds_all(args, 0, 1, meter)? && holds_all(args, 1, 0, meter)?))
    }),
    global("sets.intersects", &[List, List], Bool, intersects),
    global("math.greatest", &[List], Inner, |args, meter| end(args, 0, Ordering::Greater, meter)),
    global("math.greatest", &[Any], Same, greatest),
    global("math.greatest", &[Any, Any], Any, greatest),
    global("math.greatest", &[Any, Any, Any], Any, greatest),
    global("math.least", &[List], Inner, |args, meter| end(args, 0, Ordering::Less, meter)),
    global("math.least", &[Any], Same, least),
    global("math.least", &[Any, Any], Any, least),
    global("math.least", &[Any, Any, Any], Any, least),
    global("math.abs", &[Int], Int, |args, _| {
        let number = int(args, 0)?.checked_abs();
        number.map(Value::Int).ok_or_else(|| Failure::other("integer overflow"))
    }),
    global("math.abs", &[Double], Double, |args, _| rounded(args, f64::abs)),
    global("math.ceil", &[Double], Double, |args, _| rounded(args, f64::ceil)),
    global("math.floor", &[Double], Double, |args, _| rounded(args, f64::floor)),
    global("math.round", &[Double], Double, |args, _| rounded(args, f64::round)),
    global("math.trunc", &[Double], Double, |args, _| rounded(args, f64::trunc)),
    global("optional.of", &[Any], OptionalSame, |args, _| {
        Ok(Value::optional(args.first().cloned()))
    }),
    global("optional.none", &[], Optional, |_, _| Ok(Value::Optional(None))),
    global("optional.ofNonZeroValue", &[Any], OptionalSame, |args, _| {
        Ok(Value::optional(args.first().filter(|value| !is_zero(value)).cloned()))
    }),
    member("hasValue", &[Optional], Bool, |args, _| {
        Ok(Value::Bool(matches!(args, [Value::Optional(Some(_))])))
    }),
    member("value", &[Optional], Inner, |args, _| match args {
        [Value::Optional(Some(value))] => Ok(value.as_ref().clone()),
        _ => Err(Failure::other("optional.none() dereference")),
    }),
    member("or", &[Optional, Optional], Same, |args, _| match args {
        [Value::Optional(None), other] => Ok(other.clone()),
        [own, _] => Ok(own.clone()),
        _ => Err(Failure::no_overload()),
    }),
    member("orValue", &[Optional, Any], Inner, |args, _| match args {
        [Value::Optional(Some(value)), _] => Ok(value.as_ref().clone()),
        [Value::Optional(None), other] => Ok(other.clone()),
        _ => Err(Failure::no_overload()),
    }),
];

type Given<'a> = Result<Value<'a>, Failure>;

fn order<'a>(left: &Value<'a>, right: &Value<'a>, meter: &mut Meter) -> Result<Ordering, Failure> {
    meter.spend(1)?;
    if let (Value::Text(left), Value::Text(right)) = (left, right) {
        meter.spend_bytes(left.len().min(right.len()))?;
    }
    left.compare(right).ok_or_else(Failure::no_overload)
}

fn is_sorted<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    let items = items(args, 0, meter)?;
    for pair in items.windows(2) {
        if order(&pair[0], &pair[1], meter)? == Ordering::Greater {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    let mut items = items(args, 0, meter)?.into_iter();
    let Some(mut all) = items.next() else { return Ok(Value::Int(0)) };
    for item in items {
        let overflow = || Failure::other("integer overflow");
        all = match (all, item) {
            (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(b).ok_or_else(overflow)?),
            (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_add(b).ok_or_else(overflow)?),
            (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
            (Value::Duration(a), Value::Duration(b)) => {
                Value::Duration(a.checked_add(b).ok_or_else(overflow)?)
            }
            _ => return Err(Failure::no_overload()),
        };
    }
    Ok(all)
}

/// The item of a list that comes before (or after) all others.
fn end<'a>(args: &[Value<'a>], list: usize, wanted: Ordering, meter: &mut Meter) -> Given<'a> {
    best(items(args, list, meter)?, wanted, meter)
}

fn best<'a>(items: Vec<Value<'a>>, wanted: Ordering, meter: &mut Meter) -> Given<'a> {
    let mut items = items.into_iter();
    let empty = || Failure::other("min/max called on empty list");
    let mut best = items.next().ok_or_else(empty)?;
    for item in items {
        if order(&item, &best, meter)? == wanted {
            best = item;
        }
    }
    Ok(best)
}

fn greatest<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    best(args.to_vec(), Ordering::Greater, meter)
}

fn least<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    best(args.to_vec(), Ordering::Less, meter)
}

fn place<'a>(args: &[Value<'a>], is_last: bool, meter: &mut Meter) -> Given<'a> {
    let wanted = args.get(1).ok_or_else(Failure::no_overload)?;
    let mut found = None;
    for (index, item) in items(args, 0, meter)?.iter().enumerate() {
        if item.equals(wanted, meter)? {
            found = Some(index);
            if !is_last {
                break;
            }
        }
    }
    Ok(found.map_or(Value::Int(-1), count))
}

fn slice<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    let items = items(args, 0, meter)?;
    let (start, end) = (int(args, 1)?, int(args, 2)?);
    let at = |index: i64| usize::try_from(index).ok();
    let part = at(start).zip(at(end)).and_then(|(start, end)| items.get(start..end));
    let part = part.ok_or_else(|| Failure::other(format!("cannot slice({start}, {end})")))?;
    Ok(Value::list(part.to_vec()))
}

fn distinct<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    let mut kept: Vec<Value<'a>> = Vec::new();
    for item in items(args, 0, meter)? {
        if !has(&kept, &item, meter)? {
            kept.push(item);
        }
    }
    Ok(Value::list(kept))
}

fn sort<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    let mut items = items(args, 0, meter)?;
    if let Some(first) = items.first() {
        for item in &items {
            order(first, item, meter)?;
        }
    }
    let steps = u64::from(items.len().max(1).ilog2()) + 1;
    meter.spend(items.len() as u64 * steps)?;
    items.sort_by(|a, b| a.compare(b).unwrap_or(Ordering::Equal));
    Ok(Value::list(items))
}

fn flatten<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    let mut flat = Vec::new();
    for item in items(args, 0, meter)? {
        match item {
            Value::List(list) => {
                meter.spend(list.len() as u64)?;
                flat.extend(list.items()?);
            }
            item => flat.push(item),
        }
    }
    Ok(Value::list(flat))
}

fn has<'a>(list: &[Value<'a>], wanted: &Value<'a>, meter: &mut Meter) -> Result<bool, Failure> {
    for item in list {
        if item.equals(wanted, meter)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn holds_all(
    args: &[Value<'_>],
    all: usize,
    wanted: usize,
    meter: &mut Meter,
) -> Result<bool, Failure> {
    let all = items(args, all, meter)?;
    for wanted in items(args, wanted, meter)? {
        if !has(&all, &wanted, meter)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn intersects<'a>(args: &[Value<'a>], meter: &mut Meter) -> Given<'a> {
    let other = items(args, 1, meter)?;
    for item in items(args, 0, meter)? {
        if has(&other, &item, meter)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn rounded<'a>(args: &[Value<'a>], round: fn(f64) -> f64) -> Given<'a> {
    match args {
        [Value::Double(number)] => Ok(Value::Double(round(*number))),
        _ => Err(Failure::no_overload()),
    }
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(yes) => !yes,
        Value::Int(n) => *n == 0,
        Value::Uint(n) => *n == 0,
        Value::Double(n) => *n == 0.0,
        Value::Text(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.len() == 0,
        Value::Map(map) => map.len() == 0,
        Value::Duration(length) => length.is_zero(),
        Value::Optional(inner) => inner.is_none(),
        _ => false,
    }
}
