import assert from 'node:assert/strict';
import { parseEndpoint } from './endpoint.ts';

describe('parseEndpoint', () => {
  it('reads an absolute path', () => {
    assert.equal(parseEndpoint('unix:///run/writ/agent.sock'), '/run/writ/agent.sock');
  });

  for (const bad of [
    '',
    '/run/agent.sock',
    'unix:/run/agent.sock',
    'unix:run/agent.sock',
    'unix://run/agent.sock',
    'unix://host/run/agent.sock',
    'unix:///',
    'unix:///run/',
    'unix:///run/agent.sock?a=b',
    'unix:///run/agent.sock#a',
    'unix:///run/agent%2esock',
    'unix:///run/agent\0.sock',
    'UNIX:///run/agent.sock',
    'tcp://127.0.0.1:8000',
    'tcp://localhost:8000',
    'http://127.0.0.1',
  ]) {
    it(`refuses ${JSON.stringify(bad)}`, () => {
      assert.throws(() => parseEndpoint(bad), { code: 'INVALID_ARGUMENT' });
    });
  }
});
