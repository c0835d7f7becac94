use expect_test::expect;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

fn scope() -> Scope {
    let mut scope = Scope::default();
    scope.declare("self", Type::Any);
    scope
}

/// What a rule says of a value, as text.
fn says(text: &str, of: &Json) -> String {
    let rule = match Rule::compile(text, &scope()) {
        Ok(rule) => rule,
        Err(error) => return error,
    };
    let mut given = Given::default();
    given.put("self", Ok(Value::json(of)));
    let mut meter = Meter { left: RULE_COST_MAX };
    match rule.run(&given, &mut meter) {
        Ok(value) => {
            let text = library::as_text(&value, &mut meter);
            text.unwrap_or_else(|failure| format!("has no text: {failure}"))
        }
        Err(failure) => format!("failed: {failure}"),
    }
}

fn check(cases: &[(&str, &str)]) {
    let of = json!({
        "a": 1, "big": 9_223_372_036_854_775_807i64, "x": 2.5, "t": "héllo", "no": null,
        "list": [3, 1, 2], "map": {"k": "v", "l": "w"}, "items": [{"name": "a"}, {"name": "b"}],
    });
    for (text, wanted) in cases {
        assert_eq!(says(text, &of), *wanted, "{text}");
    }
}

#[test]
fn operators_work_as_in_kubernetes() {
    check(&[
        ("1 + 2 * 3 - 4 / 2", "5"),
        ("-7 % 3", "-1"),
        ("2 + 3 == 5 && !(1 > 2)", "true"),
        ("1 < 1.5 && 2u > 1", "true"),
        ("'a' + \"b\" + r'\\n' + '\\u0041'", "ab\\nA"),
        ("[1] + [2, 3]", "[1, 2, 3]"),
        ("self.a == 1 ? 'one' : 'more'", "one"),
        ("self.big + 1", "failed: integer overflow"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("1 / 0", "failed: division by zero"),
        ("1 / 0 == 1 || true", "true"),
        ("false && self.b == 1", "false"),
        ("self.b == 1", "failed: no such key: b"),
        ("has(self.b) || has(self.a)", "true"),
        ("has(self.no) && self.no == null", "true"),
        ("2 in self.list && !('z' in self.map) && 'k' in self.map", "true"),
        ("self.list[1]", "1"),
        ("self.list[3]", "failed: index out of bounds: 3"),
        ("self['t']", "héllo"),
        ("{'a': 1, 'b': [true]}", "{a: 1, b: [true]}"),
        ("type(1) == int && type('') == string", "true"),
        ("0x1F + 1 // a comment\n + 1", "33"),
        ("self.t < 1", "failed: no such overload"),
    ]);
}

#[test]
fn macros_run_over_lists_and_maps() {
    check(&[
        ("self.list.all(i, i > 0)", "true"),
        ("self.list.exists(i, i > 2)", "true"),
        ("self.list.exists_one(i, i > 1)", "false"),
        ("self.list.filter(i, i > 1)", "[3, 2]"),
        ("self.list.map(i, i * 2)", "[6, 2, 4]"),
        ("self.list.map(i, i > 1, i * 2)", "[6, 4]"),
        ("self.map.all(k, self.map[k] != '')", "true"),
        ("self.map.map(k, k)", "[k, l]"),
        ("self.items.all(x, self.items.exists_one(y, x.name == y.name))", "true"),
        ("self.list.all(i, v, i < 3 && v > 0)", "true"),
        ("self.map.transformList(k, v, k + v)", "[kv, lw]"),
        ("self.map.transformMap(k, v, v + '!')", "{k: v!, l: w!}"),
        ("cel.bind(x, self.a + 1, x * x)", "4"),
        ("[1, 'a'].all(i, i == 1)", "false"),
        ("[1, 2].all(i, 1 / (i - 1) > 0)", "failed: division by zero"),
    ]);
}

#[test]
fn texts_lists_and_optionals_have_their_functions() {
    check(&[
        ("size(self.t) == 5 && self.t.size() == 5 && size(self.map) == 2", "true"),
        ("'aBc'.lowerAscii() + 'aBc'.upperAscii()", "abcABC"),
        ("self.t.substring(1, 3) + self.t.charAt(1) + self.t.substring(4)", "éléo"),
        ("'x'.substring(2)", "failed: index out of range: 2"),
        ("'a,b,c'.split(',', 2)", "[a, b,c]"),
        ("'abc'.split('')", "[a, b, c]"),
        ("['a', 'b'].join('-') + ['c'].join()", "a-bc"),
        ("'aaa'.replace('a', 'b', 2) + ' x '.trim()", "bbax"),
        ("'héhé'.indexOf('h', 1) + 'héhé'.lastIndexOf('é')", "5"),
        ("'abc'.matches('^a.c$') && !'abd'.matches('^a.c$')", "true"),
        ("'a1b22'.findAll('[0-9]+') == ['1', '22'] && 'a1'.find('[0-9]') == '1'", "true"),
        ("'%s is %d, %.2f, %x'.format(['a', 7, 1.5, 255])", "a is 7, 1.50, ff"),
        ("'%d'.format(['a'])", "failed: error during formatting: %d does not take a string"),
        ("self.list.isSorted() || self.list.sum() != 6", "false"),
        ("self.list.min() + self.list.max() + self.list.indexOf(1)", "5"),
        ("self.list.sort() == [1, 2, 3] && [1, 1, 2].distinct() == [1, 2]", "true"),
        ("sets.contains(self.list, [1, 2]) && !sets.intersects(self.list, [9])", "true"),
        ("math.greatest(1, 5, 3) + math.least([4, 2])", "7"),
        ("self.?a.orValue(0) + self.?b.orValue(10)", "11"),
        ("self.?map.k.hasValue() && !self.?map.z.hasValue()", "true"),
        ("self.map[?'z'].orValue('none')", "none"),
        ("optional.of(1).optMap(v, v + 1).value()", "2"),
        ("optional.none().value()", "failed: optional.none() dereference"),
        ("string(1.5) + string(7) + string(true) + string(2.0)", "1.57true2"),
        ("int('42') + int(1.9)", "43"),
        ("int('x')", "failed: type conversion error from \"x\" to 'int'"),
    ]);
}

#[test]
fn kubernetes_own_functions_are_there() {
    check(&[
        ("quantity('1500m').isGreaterThan(quantity('1')) && isQuantity('1Gi')", "true"),
        ("quantity('1Ki').asInteger() + quantity('2').compareTo(quantity('3'))", "1023"),
        ("isQuantity('x')", "false"),
        ("isIP('10.0.0.1') && !isIP('10.0.0.256') && ip('::1').family() == 6", "true"),
        ("ip('127.0.0.1').isLoopback() && ip.isCanonical('::1')", "true"),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3') && isCIDR('fd00::/8')", "true"),
        ("cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16'))", "true"),
        ("cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8')", "true"),
        ("url('https://a.example:80/p?q=1&q=2').getHost()", "a.example:80"),
        ("url('https://a.example:80/p?q=1').getPort() + url('/p').getEscapedPath()", "80/p"),
        ("url('https://a.example/?q=1&q=2').getQuery()", "{q: [1, 2]}"),
        ("isURL('https://a.example') && !isURL('a.example') && isURL('/a')", "true"),
        ("duration('1h30m') > duration('80m')", "true"),
        ("string(duration('1m1.5s'))", "61.5s"),
        ("timestamp('2026-01-02T03:04:05Z').getHours()", "3"),
        ("timestamp('2026-01-02T23:04:05Z').getDayOfWeek('Europe/Berlin')", "6"),
        (
            "timestamp('2026-01-02T00:00:00Z') + duration('1h') > timestamp('2026-01-02T00:30:00Z')",
            "true",
        ),
    ]);
}

fn typed() -> Scope {
    let schema = json!({"type": "object", "properties": {
        "size": {"type": "integer"},
        "ratio": {"type": "number"},
        "name-with": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "port": {"x-kubernetes-int-or-string": true},
        "anything": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    let mut scope = Scope::default();
    scope.declare("self", Type::of_schema(&schema).unwrap());
    scope
}

/// What cannot work is told when a rule is written, with the place.
#[test]
fn what_makes_no_sense_is_told_with_its_place() {
    let told = |text: &str| Rule::compile(text, &typed()).map(drop).unwrap_err();
    expect![[r#"
        ERROR: <input>:1:5: undefined field 'sizes'
         | self.sizes > 1
         | ....^"#]]
    .assert_eq(&told("self.sizes > 1"));
    expect![[r#"
        ERROR: <input>:2:6: undeclared reference to 'b' (in container '')
         |   || b
         | .....^"#]]
    .assert_eq(&told("self.size > 1\n  || b"));
    for (text, wanted) in [
        ("nosuch(self.size)", "1:7: undeclared reference to 'nosuch'"),
        ("self.tags.sortBy(x)", "undeclared reference to 'sortBy'"),
        (
            "self.size > 'a'",
            "1:11: found no matching overload for '_>_' applied to '(int, string)'",
        ),
        ("self.size + self.ratio > 1", "found no matching overload for '_+_'"),
        ("self.size.startsWith('a')", "'startsWith' applied to 'int.(string)'"),
        ("self.size.foo", "type 'int' does not support field selection"),
        ("self.anything.foo == 1", "undefined field 'foo'"),
        ("self.all(k, true)", "cannot be range of a comprehension"),
        ("self.tags.all(t, t)", "expected type 'bool' but found 'string'"),
        ("self.tags.all(t, t.matches('('))", "invalid matches argument"),
        ("self.size >", "Syntax error"),
        ("self.size ==== 1", "Syntax error"),
        ("'abc", "token recognition error"),
        ("for == 1", "reserved identifier: for"),
    ] {
        let error = told(text);
        assert!(error.contains(wanted), "{text}: {error}");
    }
    for text in [
        "self.name__dash__with == 'a' && self.`name-with` == 'a'",
        "self.port == 1 || self.port == 'http'",
        "self.labels.all(k, self.labels[k].size() < 3) && self.labels.a == 'b'",
        "self.ratio < 1 && self.ratio > 0.5",
        "has(self.size) && self.tags.exists(t, t in ['a'])",
    ] {
        assert!(Rule::compile(text, &typed()).is_ok(), "{text}");
    }
}

/// No text makes us go deeper than we have room for.
#[test]
fn hostile_texts_are_refused_and_not_followed() {
    let many = |text: &str| text.repeat(16_000);
    for text in [
        many("("),
        many("["),
        many("{1:"),
        many("!"),
        many("-"),
        many("- "),
        format!("self{}", many(".a")),
        format!("self{}", "[0]".repeat(10_000)),
        format!("1{}", many("+1")),
        format!("true{}", "?true:true".repeat(3000)),
        format!("true{}", "?true".repeat(3000)),
        format!("{}1{}", "f(".repeat(5000), ")".repeat(5000)),
        "a".repeat(TEXT_BYTES_MAX + 1),
        format!("self{}", ".map(x, x".repeat(3000)),
    ] {
        assert!(Rule::compile(&text, &scope()).is_err(), "{}", &text[..20]);
    }
    let wide = format!("true{}", " && true".repeat(4000));
    assert_eq!(says(&wide, &json!(null)), "true");
    assert!(says(&"!".repeat(4000), &json!(null)).contains("Syntax error"));
}

/// A rule that would take long stops.
#[test]
fn a_rule_has_a_budget() {
    let of = json!({ "list": (0..1000).collect::<Vec<_>>(), "t": "a".repeat(10_000) });
    for text in [
        "self.list.all(a, self.list.all(b, self.list.all(c, a + b + c >= 0)))",
        "self.list.map(a, self.list.map(b, self.t + self.t)).size() > 0",
        "self.list.all(a, self.t.matches('(a*)*' + string(a)) || true)",
        "self.list.all(a, self.t.replace('', self.t).size() > 0)",
        "cel.bind(a, self.list + self.list, cel.bind(b, [a, a, a], cel.bind(c, [b, b, b, b], \
         cel.bind(d, [c, c, c, c, c], cel.bind(e, [d, d, d, d, d, d, d, d, d], e == e)))))",
    ] {
        let cost = "failed: operation cancelled: actual cost limit exceeded";
        assert_eq!(says(text, &of), cost, "{text}");
    }
}

/// What is decoded to be looked at is paid for each time.
#[test]
fn decoding_has_its_price() {
    let schema = json!({"type": "object", "properties": {
        "b": {"type": "string", "format": "byte"},
        "n": {"type": "array", "items": {"type": "integer"}},
        "d": {"type": "string", "format": "duration"},
    }});
    let type_ = Type::of_schema(&schema).unwrap();
    let mut scope = Scope::default();
    scope.declare("self", type_.clone());
    let of = json!({
        "b": "AAAA".repeat(100_000), "n": (0..100).collect::<Vec<_>>(), "d": "1h".repeat(100_000),
    });
    let said = |text: &str| {
        let rule = Rule::compile(text, &scope).unwrap();
        let mut given = Given::default();
        given.put("self", Value::typed(&of, &type_));
        rule.holds(&given, &mut Meter { left: RULE_COST_MAX })
    };
    assert_eq!(said("self.n.all(i, has(self.b))"), Ok(true), "nobody looks at it");
    assert_eq!(said("self.n.all(i, self.b.size() > i)"), Err(Failure::Cost));
    assert_eq!(said("self.n.all(i, [self].exists(s, s.?b.hasValue()))"), Err(Failure::Cost));
    assert!(matches!(said("self.d > duration('1h')"), Err(Failure::Other(_))));
}

/// Words of rules, put together at random: most make no sense, some do.
fn text() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "self",
        ".a",
        ".list",
        ".map",
        "[0]",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        ",",
        ":",
        "?",
        "1",
        "2u",
        "1.5e300",
        "-9223372036854775808",
        "'a'",
        "b'\\xff'",
        "r'('",
        "'%s'",
        "true",
        "null",
        "+",
        "-",
        "*",
        "/",
        "%",
        "==",
        "<",
        "in ",
        "&&",
        "||",
        "!",
        ".?b",
        ".all(x, x == 1)",
        ".map(x, x)",
        ".filter(x, true)",
        ".size()",
        ".matches('a*')",
        ".format([self])",
        ".substring(1, 0)",
        ".split('', 3)",
        "int(",
        "string(",
        "duration('1h')",
        "timestamp('2026-01-01T00:00:00Z')",
        "quantity('1Ei')",
        "cidr('::/0')",
        "url('/a')",
        ".orValue(1)",
        ".lastIndexOf('é', 1)",
        ".charAt(1)",
        "\"\\u12",
        "é",
        "`",
        "\n",
    ]);
    prop::collection::vec(words, 0..12).prop_map(|words| words.concat())
}

fn json_value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "[aé%]{0,4}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("(a|b|list|map)", inner, 0..4)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever a rule and a value say, the answer is a value or a reason.
    #[test]
    fn no_rule_panics(text in text(), of in json_value()) {
        says(&text, &of);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}") {
        says(&text, &json!({}));
    }
}
