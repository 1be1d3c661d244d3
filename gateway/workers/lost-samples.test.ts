import assert from 'node:assert/strict';
import { MetricsRegistry } from '../../runtime/metrics.ts';
import { LostSamples } from './lost-samples.ts';

describe('LostSamples', () => {
  it('keeps what was counted, and drops how things stood', () => {
    const own = new MetricsRegistry();
    const requests = own.counter('writ_test_requests_total', 'Requests.', ['kind']);
    const open = own.gauge('writ_test_open', 'Open.');
    const took = own.histogram('writ_test_duration_seconds', 'Took.');
    const lost = new LostSamples(new Set(['writ_test_open']));
    requests.inc({ kind: 'a' }, 2);
    requests.inc({ kind: 'b' });
    open.set(5);
    took.observe(0.01);
    lost.add(own.samples());
    lost.add(own.samples());
    const text = own.render([lost.samples]);
    for (const line of [
      'writ_test_requests_total{kind="a"} 6',
      'writ_test_requests_total{kind="b"} 3',
      'writ_test_open 5',
      'writ_test_duration_seconds_bucket{le="0.005"} 0',
      'writ_test_duration_seconds_bucket{le="0.025"} 3',
      'writ_test_duration_seconds_count 3',
    ]) {
      assert.ok(text.split('\n').includes(line), line);
    }
  });
});
