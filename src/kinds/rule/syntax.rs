//! What a rule's text says, as a tree.

use regex::Regex;

/// One expression and where it stands.
#[derive(Debug)]
pub(super) struct Expr {
    /// The byte at which an error about it points.
    pub(super) at: usize,
    /// How deep the tree below it is.
    pub(super) depth: usize,
    pub(super) node: Node,
}

/// What an expression is.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Name(String),
    /// `of.field`, or `of.?field`
    Select {
        of: Box<Expr>,
        field: String,
        optional: bool,
    },
    /// `has(of.field)`
    Has {
        of: Box<Expr>,
        field: String,
    },
    /// `of[index]`, or `of[?index]`
    Index {
        of: Box<Expr>,
        index: Box<Expr>,
        optional: bool,
    },
    /// `name(args)`, or `of.name(args)`
    Call(Call),
    Binary(Operator, Box<(Expr, Expr)>),
    Not(Box<Expr>),
    Minus(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    If(Box<(Expr, Expr, Expr)>),
    /// Whether an item is optional stands beside it.
    List(Vec<(Expr, bool)>),
    Map(Vec<(Expr, Expr, bool)>),
    Loop(Box<Loop>),
    /// `cel.bind(name, value, body)`
    Bind {
        name: String,
        value: Box<Expr>,
        body: Box<Expr>,
    },
    /// `of.optMap(name, body)`; `flat` for `optFlatMap`.
    OptionalMap {
        of: Box<Expr>,
        name: String,
        body: Box<Expr>,
        flat: bool,
    },
}

/// A call of a function.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) of: Option<Box<Expr>>,
    pub(super) name: String,
    pub(super) args: Vec<Expr>,
    /// The expression that a literal argument spells, read once.
    pub(super) pattern: Option<Pattern>,
}

/// A regular expression, and what a match costs for each byte.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pub(super) regex: Regex,
    pub(super) weight: u64,
}

/// What runs over a list or a map.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) kind: LoopKind,
    pub(super) over: Expr,
    pub(super) name: String,
    /// With two names, the first is the index or the key.
    pub(super) second: Option<String>,
    pub(super) filter: Option<Expr>,
    pub(super) body: Expr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoopKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    /// To a list.
    Map,
    /// To a map: `transformMap`.
    MapValues,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl Operator {
    /// As messages name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Equal => "_==_",
            Self::NotEqual => "_!=_",
            Self::Less => "_<_",
            Self::LessOrEqual => "_<=_",
            Self::Greater => "_>_",
            Self::GreaterOrEqual => "_>=_",
            Self::In => "@in",
            Self::Add => "_+_",
            Self::Subtract => "_-_",
            Self::Multiply => "_*_",
            Self::Divide => "_/_",
            Self::Modulo => "_%_",
        }
    }
}

impl Expr {
    /// The expressions right below this one.
    pub(super) fn children(&self) -> Vec<&Expr> {
        match &self.node {
            Node::Null | Node::Bool(_) | Node::Int(_) | Node::Uint(_) | Node::Double(_) => vec![],
            Node::Text(_) | Node::Bytes(_) | Node::Name(_) => vec![],
            Node::Select { of, .. } | Node::Has { of, .. } | Node::Not(of) | Node::Minus(of) => {
                vec![of]
            }
            Node::Index { of, index, .. } => vec![of, index],
            Node::Call(call) => call.of.iter().map(|of| &**of).chain(&call.args).collect(),
            Node::Binary(_, both) => vec![&both.0, &both.1],
            Node::And(list) | Node::Or(list) => list.iter().collect(),
            Node::If(all) => vec![&all.0, &all.1, &all.2],
            Node::List(items) => items.iter().map(|(item, _)| item).collect(),
            Node::Map(entries) => entries.iter().flat_map(|(key, value, _)| [key, value]).collect(),
            Node::Loop(l) => [&l.over, &l.body].into_iter().chain(&l.filter).collect(),
            Node::Bind { value, body, .. } => vec![value, body],
            Node::OptionalMap { of, body, .. } => vec![of, body],
        }
    }

    /// Whether a name occurs in it.
    pub(super) fn names(&self, name: &str) -> bool {
        matches!(&self.node, Node::Name(own) if own == name)
            || self.children().into_iter().any(|inner| inner.names(name))
    }
}
