import assert from 'node:assert/strict';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  GrantSchema,
  type PostgresRightsSchema,
  type SessionLimitsSchema,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { narrows } from './narrows.ts';

type Limits = MessageInitShape<typeof SessionLimitsSchema>;
type Rights = MessageInitShape<typeof PostgresRightsSchema>;

const grant = (session: Limits, rights: Rights = {}) =>
  create(GrantSchema, {
    session: session as { rows?: bigint },
    rights: { case: 'postgres', value: rights as { statements?: string[] } },
  });

describe('narrows, by budgets and rules', () => {
  for (const [what, before, after] of [
    ['bytes', {}, { bytes: 5n }],
    ['statements', { statements: 9n }, { statements: 8n }],
    ['rows of a day', { perDay: { rows: 9n } }, { perDay: { rows: 8n } }],
    ['time of a day', {}, { perDay: { duration: { seconds: 60n } } }],
    ['constraint errors', {}, { errors: 5 }],
    ['idle time', {}, { idleInTransaction: { seconds: 60n } }],
  ] as const satisfies readonly (readonly [string, Limits, Limits])[]) {
    it(`ends sessions that had more ${what}, and keeps those that had less`, () => {
      assert.equal(narrows(grant(before), grant(after)), true);
      assert.equal(narrows(grant(after), grant(before)), false);
      assert.equal(narrows(grant(after), grant(after)), false);
    });
  }

  for (const [what, rights] of [
    ['a table', { rules: { tables: ['secrets'] } }],
    ['a function', { rules: { functions: ['f'] } }],
    ['COPY', { rules: { noCopy: true } }],
    ['to go unrecorded', { recording: { rows: true } }],
  ] as const satisfies readonly (readonly [string, Rights])[]) {
    it(`ends sessions that a rule now refuses ${what}`, () => {
      assert.equal(narrows(grant({}), grant({}, rights)), true);
      assert.equal(narrows(grant({}, rights), grant({})), false);
    });
  }

  it('ends sessions that had any statement where only some are left', () => {
    const any = grant({}, { statements: ['any'] });
    const some = grant({}, { statements: ['read', 'write'] });
    assert.equal(narrows(any, some), true);
    assert.equal(narrows(some, any), false);
  });
});
