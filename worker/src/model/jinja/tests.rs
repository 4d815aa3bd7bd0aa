use minijinja::context;
use minijinja::syntax::SyntaxConfig;

use super::*;

fn render(source: &str) -> Result<String, Error> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(100_000));
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    add_to(&mut environment);
    environment.add_template_owned("chat", translate(source))?;
    environment.get_template("chat")?.render(context! {
        tools => (),
        name => "港 <b>&'",
        text => "a<sep>b<sep>c",
        list => vec!["a", "b"],
        map => context! { b => 1, a => vec![true] },
    })
}

/// What jinja2 3.1.6 gives in the environment of transformers.
#[test]
fn templates_give_what_python_gives() {
    for (source, expected) in [
        ("{% generation %}a{% endgeneration %}b", "ab"),
        ("{% raw %}{{ a + b }} {% generation %}{% endraw %}.", "{{ a + b }} {% generation %}."),
        ("x {%- generation -%} a {%- endgeneration %} b", "xa b"),
        ("{% for x in list %}\n  {% generation %}\n{{ x }}\n  {% endgeneration %}\n{% endfor %}.", "a\nb\n."),
        ("{% set n = 1 %}{% generation %}{% set n = 2 %}{{ n }}{% endgeneration %}{{ n }}", "21"),
        (
            "{{ tools is iterable }} {{ list is iterable }} {{ name is iterable }} {{ map is iterable }} {{ 3 is iterable }} {{ nothing is iterable }}",
            "False True True True False True",
        ),
        (
            "{{ name is sequence }} {{ list is sequence }} {{ map is sequence }} {{ tools is sequence }} {{ 3 is sequence }}",
            "True True True False False",
        ),
        (
            "{{ name|tojson }} {{ map|tojson }} {{ tools|tojson }} {{ [1, 2.5, none, true]|tojson }}",
            "\"港 <b>&'\" {\"b\": 1, \"a\": [true]} null [1, 2.5, null, true]",
        ),
        (
            "{{ name|tojson(ensure_ascii=False) }} {{ name|tojson(ensure_ascii=True) }} {{ '🏴'|tojson(ensure_ascii=true) }}",
            "\"港 <b>&'\" \"\\u6e2f <b>&'\" \"\\ud83c\\udff4\"",
        ),
        (
            "{{ map|tojson(indent=2) }} {{ map|tojson(indent=4, sort_keys=true) }} {{ []|tojson(indent=2) }} {{ {}|tojson }}",
            "{\n  \"b\": 1,\n  \"a\": [\n    true\n  ]\n} {\n    \"a\": [\n        true\n    ],\n    \"b\": 1\n} [] {}",
        ),
        ("{{ map|tojson(separators=(',', ':')) }}", "{\"b\":1,\"a\":[true]}"),
        (
            "{{ text.rsplit('<sep>') }} {{ text.rsplit('<sep>', 1) }} {{ text.rsplit('<sep>', maxsplit=1)[-1] }} {{ '  a b  c '.rsplit() }} {{ '  a b  c '.rsplit(none, 1) }}",
            "['a', 'b', 'c'] ['a<sep>b', 'c'] c ['a', 'b', 'c'] ['  a b', 'c']",
        ),
        ("{{ text.split('<sep>')[-1] }} {{ text.split('<sep>', 1) }}", "c ['a', 'b<sep>c']"),
        (
            "{{ text.partition('<sep>')[2] }} {{ text.partition('nope')[0] }} {{ text.rpartition('<sep>')[0] }} {{ text.rpartition('nope')[2] }}",
            "b<sep>c a<sep>b<sep>c a<sep>b a<sep>b<sep>c",
        ),
        (
            "{{ text.removeprefix('a<') }} {{ text.removesuffix('>c') }} {{ text.removesuffix('zz') }}",
            "sep>b<sep>c a<sep>b<sep a<sep>b<sep>c",
        ),
        (
            "{{ '%s' % name }} {{ '%s-%s' % ('a', 2) }} {{ '%d%%' % 5 }} {{ 7 % 4 }} {{ '%s' % name.upper() }} {{ '<%s>' % list[0]|upper }} {{ 'x' ~ '%s' % 'y' ~ 'z' }}",
            "港 <b>&' a-2 5% 3 港 <B>&' <A> xyz",
        ),
        ("{{ '%02d' % 7 }} {% if '%s' % 'a' == 'a' %}yes{% endif %} {{ \"it's %s\" % ('b') }}", "07 yes it's b"),
        (
            "{{ strftime_now('%-d %B %Y') }} {{ strftime_now('%d/%m/%y') }} {{ strftime_now('%-m') }} {{ strftime_now('%F') }}",
            "26 July 2024 26/07/24 7 2024-07-26",
        ),
        (
            "{{ tools }} {{ true }} {{ list }} {{ map }} {{ [none, 'it\\'s', 1.5] }} {{ nothing }}",
            "None True ['a', 'b'] {'b': 1, 'a': [True]} [None, \"it's\", 1.5] ",
        ),
        ("{{ '{{' }} {{ '%}' }} {# '%s' % x #} {{ {'a': 1}['a'] }}", "{{ %}  1"),
        ("{{ map.copy()['b'] }} {{ 'ABC'.casefold() }}", "1 abc"),
        ("{% for x in list %}{% if loop.first %}{% continue %}{% endif %}{{ x }}{% endfor %}", "b"),
    ] {
        match render(source) {
            Ok(got) => assert_eq!(got, expected, "{source}"),
            Err(error) => panic!("{source}: {error:#}"),
        }
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (source, name) in [
        ("{% audio %}x{% endaudio %}", "audio"),
        ("{{ 'a'.zap() }}", "zap"),
        ("{{ 'a'|zap }}", "zap"),
        ("{{ strftime_now('%Q') }}", "%Q"),
        ("{{ raise_exception('no system turn') }}", "no system turn"),
        ("{{ undefined_thing|tojson }}", "undefined"),
    ] {
        let error = format!("{:#}", render(source).unwrap_err());
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn lists_that_are_doubled_or_repeated_are_refused_in_time() {
    let doubled = |begin: &str, again: &str, end: &str| format!("{begin}{}{end}", again.repeat(60));
    let begun = longhand_proto::clock::now();
    for source in [
        doubled("{% set a = [1] %}", "{% set a = a + a %}", "{{ a|length }}"),
        doubled("{% set a = [1] %}", "{% set b = a %}{% set a = b + a %}", "{{ a|list|length }}"),
        doubled("{% set ns = namespace(a=[1]) %}", "{% set ns.a = (ns.a + ns.a) %}", "{{ ns.a|tojson }}"),
        format!("{}{{{{ a }}}}{}", "{% with a = (a or [1]) + (a or [1]) %}".repeat(60), "{% endwith %}".repeat(60)),
        format!("{}{{{{ a }}}}{}", "{% for a in [(a or [1]) + (a or [1])] %}".repeat(60), "{% endfor %}".repeat(60)),
        "{% set a = [1] * 1000000000 %}{{ a }}".to_owned(),
        format!("{{{{ ([1] * 1000000000{})|length }}}}", " + [1]".repeat(40)),
        "{{ range(100000)|list + range(100000)|list }}".to_owned(),
        "{% set a = [[1]] %}{% for x in range(40) %}{% set a = [a[0] + a[0]] %}{{ a }}{% endfor %}{% macro f(a, n) %}{{ f(a + a, n - 1) if n else a }}{% endmacro %}{{ f([1], 40) }}".to_owned(),
    ] {
        let error = render(&source).expect_err(&source);
        let refused = matches!(error.kind(), ErrorKind::OutOfFuel | ErrorKind::InvalidOperation);
        assert!(refused, "{source}: {error:#}");
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    // What templates do with sums works as before.
    let sums = "{% set ns = namespace(m=[]) %}{% for x in list %}{% set ns.m = ns.m + [x] %}{% endfor %}{{ ns.m + ['c'] }} \
                {{ name + text|upper + '.' }} {{ 1 + 2 * 3 }} {{ (list + list)[1 + 1] }}";
    assert_eq!(render(sums).unwrap(), "['a', 'b', 'c'] 港 <b>&'A<SEP>B<SEP>C. 7 a");
}
