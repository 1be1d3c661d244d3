import assert from 'node:assert/strict';
import * as v from 'valibot';
import { DetectorAction, Enforce } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { postgresBackend } from './document-resources.ts';
import { postgresBackendSchema } from './document-schemas.ts';

const EXCEPTION = {
  owner: 'dba@example.org',
  reason: 'the vendor owns the roles',
  expires_at: '2099-12-31T00:00:00Z',
};

function read(more: Readonly<Record<string, unknown>>) {
  const result = v.safeParse(postgresBackendSchema, {
    kind: 'Backend',
    name: 'legacy',
    type: 'postgres',
    environment: 'production',
    postgres: {
      ...{ host: 'db.internal', database: 'legacy' },
      login: { user: 'shared', password_file: '/etc/writ/password' },
      ...more,
    },
  });
  if (!result.success) return result.issues.map(({ message }) => message);
  const { body } = postgresBackend(result.output);
  assert.ok(body.case === 'backend' && body.value.type.case === 'postgres');
  return body.value.type.value;
}

describe('a PostgreSQL backend document', () => {
  it('names the gateway as the one that enforces, with its exception', () => {
    const backend = read({ enforce: 'gateway', exception: EXCEPTION });
    assert.ok(!Array.isArray(backend));
    assert.equal(backend.enforce, Enforce.GATEWAY);
    assert.equal(backend.exception?.owner, EXCEPTION.owner);
    assert.equal(backend.exception?.expiresAt?.seconds, BigInt(Date.UTC(2099, 11, 31) / 1000));
  });

  it('has an exception there, and there alone', () => {
    for (const more of [{ enforce: 'gateway' }, { exception: EXCEPTION }]) {
      const problems = read(more);
      assert.ok(Array.isArray(problems));
      assert.match(problems[0] ?? '', /an exception with owner, reason and expires_at where/);
    }
  });

  it('lists detectors and patterns with what is done', () => {
    const patterns = [{ name: 'staff', pattern: 'EMP-[0-9]{6}', action: 'mask' }];
    const backend = read({ detectors: { jwt: 'alert', card: 'mask' }, patterns });
    assert.ok(!Array.isArray(backend));
    assert.deepEqual(
      backend.detectors.map(({ kind, action }) => [kind, action]),
      [
        ['card', DetectorAction.MASK],
        ['jwt', DetectorAction.ALERT],
      ],
    );
    assert.equal(backend.patterns[0]?.pattern, 'EMP-[0-9]{6}');
    assert.equal(backend.enforce, Enforce.UNSPECIFIED);
  });

  it('refuses a pattern that is not matched in linear time, and says why', () => {
    const problems = read({ patterns: [{ name: 'x', pattern: '(a|b)+cd', action: 'mask' }] });
    assert.ok(Array.isArray(problems));
    assert.match(problems[0] ?? '', /"\(" is not served/);
  });

  it('refuses a detector that does not exist', () => {
    assert.ok(Array.isArray(read({ detectors: { face: 'mask' } })));
  });
});
