use std::fs;

use serde_json::json;

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, source) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("inside of the folder")).expect("writable");
        fs::write(path, source).expect("writable");
    }
    dir
}

fn survey(files: &[(&str, &str)]) -> Survey {
    Survey::load(Some(folder(files).path()))
}

fn data(value: serde_json::Value) -> Data {
    match value {
        serde_json::Value::Object(data) => data,
        other => panic!("not an object: {other}"),
    }
}

fn missing(survey: &Survey, value: serde_json::Value) -> Vec<String> {
    let shown = |usage: Usage| {
        let kind = if usage.optional {
            "?"
        } else if usage.function {
            "()"
        } else {
            ""
        };
        format!("{}{kind} {}:{}", usage.path, usage.file, usage.line)
    };
    survey.missing("t", &data(value)).into_iter().map(shown).collect()
}

#[test]
fn what_is_broken_leaves_the_rest_as_it_is() {
    let survey = survey(&[
        ("bad/text.txt.j2", "{{ x"),
        ("bad/html.html.j2", "<b>{{ x }}</b>"),
        ("bad/sample.json", r#"{"x": 1}"#),
        ("child/text.txt.j2", "{% extends 'layouts/own.txt.j2' %}"),
        ("layouts/own.txt.j2", "\n{% block a %}"),
        ("empty/sample.json", "{}"),
        ("welcome/subject.txt.j2", "Hi"),
    ]);
    let names: Vec<&str> = survey.names().collect();
    assert_eq!(names, ["bad", "child", "empty", "order-confirmation", "password-reset", "plain", "welcome"]);
    let of = |name| survey.problems_of(name).map(ToString::to_string).collect::<Vec<_>>();
    assert!(of("bad")[0].starts_with("bad/text.txt.j2:1: syntax error"), "{:?}", of("bad"));
    assert!(of("child")[0].starts_with("layouts/own.txt.j2:2: syntax error"), "{:?}", of("child"));
    assert_eq!(of("empty"), ["empty: has neither text.txt.j2 nor html.html.j2"]);
    assert_eq!(of("welcome"), Vec::<String>::new());
    let sample = survey.templates().sample("bad").expect("a sample");
    let html = survey.templates().render_part("bad", Part::Html, sample).expect("an HTML part");
    assert_eq!(html.as_deref(), Ok("<b>1</b>"));
    assert_eq!(survey.origin("bad"), Origin::Folder);
    assert_eq!(survey.origin("welcome"), Origin::Overridden);
    assert_eq!(survey.origin("plain"), Origin::BuiltIn);
}

#[test]
fn the_built_in_samples_have_all_that_is_asked_for_and_no_more() {
    let survey = Survey::load(None);
    for name in survey.names() {
        let sample = survey.templates().sample(name).expect("a sample");
        assert_eq!(survey.missing(name, sample), [], "{name}");
        assert_eq!(survey.unused(name), [], "{name}");
        assert_eq!(survey.problems_of(name).count(), 0, "{name}");
    }
}

#[test]
fn what_is_asked_for_is_found_through_layouts_includes_and_macros() {
    let survey = survey(&[
        (
            "t/html.html.j2",
            "{% extends 'layouts/a.html.j2' %}\n{% from 'layouts/m.html.j2' import m %}\n{% block body %}\n{{ m(Inner) }}\n\
             {% include 'layouts/i.html.j2' %}{{ \"Quoted\" }}{% endblock %}",
        ),
        (
            "layouts/a.html.j2",
            "{{ Brand }}{% block body %}{{ Gone }}{% include 'layouts/no.html.j2' ignore missing %}{% endblock %}",
        ),
        (
            "layouts/m.html.j2",
            "{% macro m(x) %}{{ x }}\n\n{{ Macro }}{{ inner() }}{% endmacro %}{% macro other(y) %}{{ Unused }}{% endmacro %}\
             {% macro inner() %}{{ Called }}{% endmacro %}",
        ),
        ("layouts/i.html.j2", "\n{{ Included }}"),
    ]);
    assert_eq!(
        missing(&survey, json!({})),
        [
            "Inner t/html.html.j2:4",
            "Brand layouts/a.html.j2:1",
            "Included layouts/i.html.j2:2",
            "Called layouts/m.html.j2:3",
            "Macro layouts/m.html.j2:3"
        ]
    );
}

#[test]
fn a_block_that_is_overridden_asks_for_nothing_unless_it_is_shown_as_well() {
    let layout = "{% block a %}{{ A }}{% block b %}{{ B }}{% endblock %}{% endblock %}\n{{ C }}";
    let child = |text| [("t/text.txt.j2", text), ("layouts/a.txt.j2", layout)];
    let of = |text| missing(&survey(&child(text)), json!({}));
    assert_eq!(of("{% extends 'layouts/a.txt.j2' %}{% block a %}{% endblock %}"), ["C layouts/a.txt.j2:2"]);
    assert_eq!(
        of("{% extends 'layouts/a.txt.j2' %}{% block b %}{% endblock %}"),
        ["A layouts/a.txt.j2:1", "C layouts/a.txt.j2:2"]
    );
    assert_eq!(of("{% extends 'layouts/a.txt.j2' %}{% block a %}{{ super() }}{% endblock %}").len(), 3);
}

#[test]
fn the_shortest_path_that_is_missing_is_named() {
    let survey = survey(&[(
        "t/text.txt.j2",
        "{{ Order.Number }} {{ Order.Total }}\n{% for item in Order.Items %}{{ item.Name }}{{ loop.index }}{% endfor %}\n\
         {{ User.Name.First }}{{ range(3) }}",
    )]);
    assert_eq!(missing(&survey, json!({})), ["Order t/text.txt.j2:1", "User t/text.txt.j2:3"]);
    assert_eq!(
        missing(&survey, json!({"Order": {"Number": 1}, "User": {"Name": "x"}})),
        ["Order.Total t/text.txt.j2:1", "Order.Items t/text.txt.j2:2", "User.Name.First t/text.txt.j2:3"]
    );
    let whole = json!({"Order": {"Number": null, "Total": 1, "Items": []}, "User": null});
    assert_eq!(missing(&survey, whole), Vec::<String>::new());
}

#[test]
fn what_a_template_asks_about_is_optional() {
    for text in [
        "{% if A %}{{ A }}{% endif %}",
        "{% if B %}{% elif not A %}{% endif %}",
        "{{ A|default('x') }}",
        "{{ A | d }}",
        "{{ A or 'x' }}",
        "{{ 'x' ~ A if A else '' }}",
        "{{ A is defined }}",
        "{% if A is not defined %}{% endif %}",
    ] {
        let found = missing(&survey(&[("t/text.txt.j2", text)]), json!({"B": 1}));
        assert_eq!(found, ["A? t/text.txt.j2:1"], "{text}");
    }
    for text in
        ["{{ A }}", "{% for x in A %}{% endfor %}", "{{ A|upper }}", "{{ A if B else 'x' }}", "{{ A|defaults }}"]
    {
        let found = missing(&survey(&[("t/text.txt.j2", text)]), json!({"B": 1}));
        assert_eq!(found, ["A t/text.txt.j2:1"], "{text}");
    }
}

#[test]
fn what_a_template_makes_itself_is_not_asked_for() {
    let survey = survey(&[
        (
            "t/text.txt.j2",
            "{% if Flag %}{% set x = 1 %}{% endif %}{{ x }}{% with y = Flag %}{{ y }}{% endwith %}\
             {% for row, cell in Rows %}{% include 'layouts/row.txt.j2' %}{% endfor %}{% set z %}a{% endset %}{{ z }}\
             {% for k, v in Rows.items() %}{{ k }}{{ v }}{% endfor %}{% set ns = namespace(a=1) %}{{ ns.a }}{{ nope(1) }}",
        ),
        ("layouts/row.txt.j2", "{{ row }}{{ cell.Name }}{{ loop.index }}{{ Other }}"),
    ]);
    assert_eq!(
        missing(&survey, json!({})),
        ["Flag? t/text.txt.j2:1", "Rows t/text.txt.j2:1", "nope() t/text.txt.j2:1", "Other layouts/row.txt.j2:1"]
    );
}

#[test]
fn data_that_no_template_asks_for_is_named_with_its_line() {
    let survey = survey(&[
        ("t/text.txt.j2", "{{ A }}{{ Order.Total }}{{ All|tojson }}{% for x in List %}{{ x.Name }}{% endfor %}"),
        (
            "t/sample.json",
            "{\n\"A\": \"Extra\",\n\"Extra\": {\"x\": 1},\n\"Order\": {\"Total\": 1,\n \"Totl\": 2},\n\"All\": {\"x\": {}},\n\"List\": [{\"Nme\": 1}]}",
        ),
    ]);
    assert_eq!(survey.unused("t"), [("Extra".to_owned(), Some(3)), ("Order.Totl".to_owned(), Some(5))]);
}

#[test]
fn a_file_that_leads_to_itself_ends() {
    let survey = survey(&[("t/text.txt.j2", "{{ A }}{% include 't/text.txt.j2' %}{% extends 't/text.txt.j2' %}")]);
    assert_eq!(missing(&survey, json!({})), ["A t/text.txt.j2:1"]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_source_makes_it_fail(pieces in proptest::collection::vec(proptest::sample::select(vec![
        "{{", "}}", "{%", "%}", "{#", "#}", " ", "\n", "'", "\"", "\\", "é", "🦆", ".", "|", "(", ")", "=", ",", "-", "~", "9", "A", "A.b",
        "block", "block a", "endblock", "macro m(x)", "endmacro", "if", "endif", "for x in", "endfor", "set", "with", "raw", "endraw",
        "extends 't/text.txt.j2'", "include 't/text.txt.j2'", "from 't/html.html.j2' import m", "is", "not", "default", "super()",
    ]), 0..60)) {
        let source = pieces.concat();
        let sources: BTreeMap<String, String> =
            [("t/text.txt.j2".to_owned(), source.clone()), ("t/html.html.j2".to_owned(), source)].into();
        let env = crate::template::engine::environment();
        let usages = variables::usages(&env, &sources, &["t/text.txt.j2".to_owned(), "t/html.html.j2".to_owned()]);
        let lines = sources["t/text.txt.j2"].matches('\n').count() + 1;
        for usage in usages {
            proptest::prop_assert!((1..=lines).contains(&usage.line), "{:?}", usage);
        }
    }
}
