import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { FindingKind } from '../../../../../proto/gen/writ/gateway/v1/recording_pb.ts';
import {
  DetectorAction,
  DetectorSchema,
} from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { cstring, int16, int32, message } from '../wire/message-body.ts';
import { Detectors } from './detectors/detectors.ts';
import { ResultGuard, StatementResult } from './result-guard.ts';
import type { ResultRules } from './result-plan.ts';
import { UNKNOWN_REACH } from './statement-reach.ts';

const SSN = '536-22-8726';
const RULES: ResultRules = {
  hashKey: () => new Uint8Array(32),
  relation: () => undefined,
  outdated: () => undefined,
};

function detecting(action: DetectorAction = DetectorAction.MASK, told: string[] = []): ResultGuard {
  const detectors = Detectors.of(
    { detectors: [create(DetectorSchema, { kind: 'ssn', action })], patterns: [] },
    (detector) => told.push(detector),
  );
  return new ResultGuard({ rules: undefined, detectors });
}

function row(text: string): Buffer {
  return message('D', int16(1), int32(text.length), Buffer.from(text));
}

describe('ResultGuard', () => {
  describe('with detectors alone', () => {
    it('overwrites what they find in rows, COPY data, errors and notices', () => {
      const guard = detecting();
      const cell = row(SSN);
      assert.equal(guard.row(cell, { start: 0, end: cell.length }, undefined), undefined);
      assert.deepEqual(cell, row('*'.repeat(11)));
      const copied = message('d', Buffer.from(`1\t${SSN}\n`));
      guard.copyData(copied, 0, copied.length);
      assert.deepEqual(copied, message('d', Buffer.from(`1\t${'*'.repeat(11)}\n`)));
      for (const type of ['E', 'N']) {
        const fields = (text: string) =>
          message(
            type,
            Buffer.from('M'),
            cstring(text),
            Buffer.from('D'),
            cstring(text),
            Buffer.alloc(1),
          );
        const said = fields(SSN);
        assert.equal(guard.message(type, said, 0, said.length), undefined);
        assert.deepEqual(said, fields('*'.repeat(11)));
      }
    });

    it('counts what they find in each session by itself', () => {
      for (const [action, kind] of [
        [DetectorAction.MASK, FindingKind.MASKED],
        [DetectorAction.ALERT, FindingKind.SHOWN],
      ] as const) {
        const told: string[] = [];
        const shared = detecting(action, told);
        const [one, other] = [shared.forSession(), shared.forSession()];
        for (let left = 3; left > 0; left -= 1) {
          const cell = row(SSN);
          one.row(cell, { start: 0, end: cell.length }, undefined);
        }
        assert.deepEqual(one.findings.take(), [{ kind, name: 'ssn', count: 3n }]);
        assert.ok(one.findings.isEmpty && other.findings.isEmpty);
        assert.deepEqual(told, ['ssn', 'ssn', 'ssn']);
      }
    });

    it('needs rows whole and no description', () => {
      assert.equal(detecting().describes, 'nothing');
      assert.equal(detecting().mustHold('d', undefined), true);
    });

    it('refuses COPY in binary, whose lengths it cannot tell from values', () => {
      const copyOut = message('H', Buffer.from([1]), int16(0));
      assert.throws(() => detecting().message('H', copyOut, 0, copyOut.length), {
        code: 'PERMISSION_DENIED',
      });
    });
  });

  describe('with rules', () => {
    const guard = new ResultGuard({ rules: RULES, detectors: undefined });

    it('passes no row before its description', () => {
      const cell = row(SSN);
      for (const result of [undefined, new StatementResult(UNKNOWN_REACH)]) {
        assert.throws(() => guard.row(cell, { start: 0, end: cell.length }, result), {
          code: 'PROTOCOL_VIOLATION',
        });
      }
    });

    it('G22 drops notifications', () => {
      const told = message('A', int32(1), cstring('channel'), cstring(SSN));
      assert.equal(guard.message('A', told, 0, told.length)?.length, 0);
    });

    it('G22 drops settings that can hold any text', () => {
      for (const [name, dropped] of [
        ['application_name', true],
        ['search_path', true],
        ['TimeZone', false],
      ] as const) {
        const told = message('S', cstring(name), cstring(SSN));
        assert.equal(guard.message('S', told, 0, told.length)?.length, dropped ? 0 : undefined);
      }
    });
  });
});
