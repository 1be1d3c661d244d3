import assert from 'node:assert/strict';
import { MetricsRegistry } from './metrics.ts';

describe('MetricsRegistry', () => {
  it('renders counters and gauges in order of name', () => {
    const registry = new MetricsRegistry();
    const open = registry.gauge('writ_test_open', 'Open now.', ['backend']);
    const calls = registry.counter('writ_test_calls_total', 'Calls.\nMany.', ['code', 'method']);
    registry.counter('writ_test_idle_total', 'Never used.');
    calls.inc({ code: 'OK', method: 'a"\\\nb' });
    calls.inc({ method: 'c', code: 'OK' }, 2.5);
    calls.inc({ code: 'OK', method: 'c' });
    open.inc({ backend: 'shop' });
    open.inc({ backend: 'shop' });
    open.dec({ backend: 'shop' });
    open.set(7, { backend: 'web' });
    assert.equal(
      registry.render(),
      [
        '# HELP writ_test_calls_total Calls.\\nMany.',
        '# TYPE writ_test_calls_total counter',
        'writ_test_calls_total{code="OK",method="a\\"\\\\\\nb"} 1',
        'writ_test_calls_total{code="OK",method="c"} 3.5',
        '# HELP writ_test_idle_total Never used.',
        '# TYPE writ_test_idle_total counter',
        'writ_test_idle_total 0',
        '# HELP writ_test_open Open now.',
        '# TYPE writ_test_open gauge',
        'writ_test_open{backend="shop"} 1',
        'writ_test_open{backend="web"} 7',
        '',
      ].join('\n'),
    );
  });

  it('renders a histogram with cumulative buckets, sum and count', () => {
    const registry = new MetricsRegistry();
    const took = registry.histogram('writ_test_took_seconds', 'How long.', ['backend']);
    for (const seconds of [0.001, 0.3, 50, 100_000]) took.observe(seconds, { backend: 'shop' });
    const lines = registry.render().split('\n');
    for (const line of [
      '# TYPE writ_test_took_seconds histogram',
      'writ_test_took_seconds_bucket{backend="shop",le="0.001"} 1',
      'writ_test_took_seconds_bucket{backend="shop",le="0.1"} 1',
      'writ_test_took_seconds_bucket{backend="shop",le="0.5"} 2',
      'writ_test_took_seconds_bucket{backend="shop",le="28800"} 3',
      'writ_test_took_seconds_bucket{backend="shop",le="+Inf"} 4',
      'writ_test_took_seconds_sum{backend="shop"} 100050.301',
      'writ_test_took_seconds_count{backend="shop"} 4',
    ]) {
      assert.ok(lines.includes(line), line);
    }
  });

  it('describes what was declared', () => {
    const registry = new MetricsRegistry();
    registry.histogram('writ_test_took_seconds', 'How long.', ['backend']);
    assert.deepEqual(registry.describe(), [
      {
        name: 'writ_test_took_seconds',
        type: 'histogram',
        help: 'How long.',
        labels: ['backend'],
      },
    ]);
  });

  it('refuses names and labels that are not of our form, and a name given twice', () => {
    const registry = new MetricsRegistry();
    registry.counter('writ_test_a_total', '');
    for (const name of ['test_total', 'writ_', 'writ_Test', 'writ_test{}', 'writ_test_a_total']) {
      assert.throws(() => registry.counter(name, ''), Error, name);
    }
    assert.throws(() => registry.gauge('writ_test_b', '', ['a-b']), /label a-b/);
  });

  it('refuses a series without its label and a counter that would shrink', () => {
    const registry = new MetricsRegistry();
    const counter = registry.counter('writ_test_a_total', '', ['code']);
    assert.throws(() => counter.inc(), /without its label code/);
    assert.throws(() => counter.inc({ code: 'x' }, -1), RangeError);
    assert.throws(() => counter.inc({ code: 'x' }, Number.NaN), RangeError);
  });

  it('stops growing when labels turn out to be an open set', () => {
    const registry = new MetricsRegistry();
    const counter = registry.counter('writ_test_a_total', '', ['id']);
    const took = registry.histogram('writ_test_b_seconds', '', ['id']);
    for (let n = 0; n < 1500; n++) {
      counter.inc({ id: String(n) });
      took.observe(1, { id: String(n) });
    }
    counter.inc({ id: '7' });
    const lines = registry.render().split('\n');
    assert.equal(lines.filter((line) => line.startsWith('writ_test_a_total{')).length, 1000);
    assert.equal(
      lines.filter((line) => line.startsWith('writ_test_b_seconds_count{')).length,
      1000,
    );
    assert.ok(lines.includes('writ_test_a_total{id="7"} 2'));
  });
});
