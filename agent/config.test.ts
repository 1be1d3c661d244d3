import assert from 'node:assert/strict';
import * as v from 'valibot';
import { agentConfigSchema } from './config.ts';

const valid = {
  trust_domain: 'example.org',
  state_dir: '/var/lib/writ/agent',
  server: '127.0.0.1:8081',
  workload_api: '/var/lib/writ/run/agent.sock',
  health: '127.0.0.1:0',
};

describe('agentConfigSchema', () => {
  it('fills in what may be left out', () => {
    const config = v.parse(agentConfigSchema, valid);
    assert.deepEqual(config.server, { host: '127.0.0.1', port: 8081 });
    assert.equal(config.log.level, 'info');
    assert.equal(config.join_string_file, undefined);
    assert.equal(config.ssh_agent, undefined);
  });

  for (const [path, value] of [
    ['trust_domain', 'Example.org'],
    ['state_dir', 'relative'],
    ['server', 'no-port'],
    ['join_string_file', 7],
    ['ssh_agent', 'run/ssh-agent.sock'],
    ['log', { level: 'loud' }],
    ['log', { levle: 'info' }],
    ['node_attestor', {}],
    ['node_attestor', { x509pop: { certificate_file: '/a' } }],
    ['node_attestor', { x509pop: { certificate_file: 'a', private_key_file: '/b' } }],
    [
      'node_attestor',
      {
        x509pop: { certificate_file: '/a', private_key_file: '/b' },
        oidc: { provider: 'ci', token_file: '/t' },
      },
    ],
    ['trust_bundle_file', 'bundle.pem'],
    ['unknown', true],
  ] as const) {
    it(`refuses ${path}: ${JSON.stringify(value)}`, () => {
      assert.equal(v.safeParse(agentConfigSchema, { ...valid, [path]: value }).success, false);
    });
  }
});
