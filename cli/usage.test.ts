import assert from 'node:assert/strict';
import { findVerb, usage } from './usage.ts';
import { verbUsage } from './verb-usage.ts';
import { VERBS } from './verbs.ts';

describe('findVerb', () => {
  it('finds every verb by its words, whatever follows', () => {
    for (const verb of VERBS) assert.equal(findVerb([...verb.path, 'x', '--y']), verb);
  });

  it('finds nothing for half of the words', () => {
    assert.equal(findVerb(['session']), undefined);
    assert.equal(findVerb([]), undefined);
  });
});

describe('usage', () => {
  it('lists every command, or those of one noun', () => {
    for (const verb of VERBS) assert.ok(usage().includes(`writ ${verb.path.join(' ')}`));
    assert.ok(!usage('session').includes('writ audit'));
  });

  it('tells the options of one command', () => {
    const [first] = VERBS.filter(({ path }) => path.join(' ') === 'token create');
    assert.ok(first !== undefined);
    assert.match(verbUsage(first), /--ttl VALUE \(10m\)/);
  });
});
