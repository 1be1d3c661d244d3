import assert from 'node:assert/strict';
import type { EventInit } from '../audit/audit-log.ts';
import { AdminGate, LIMITED_RPCS } from './admin-gate.ts';
import type { LocalCaller } from './callers.ts';
import { RPC_TABLE } from './rpc-table.ts';

const CALLER: LocalCaller = { kind: 'local', uid: 7, pid: 11, executable: '/usr/bin/writ' };

/** What begins like this looks, or takes rights away. */
const HARMLESS =
  /^(?:Get|List|Count|Check|Watch|TailEvents$|ReplaySession$|PlanBackendSetup$|CreateLock$|KillSession$|BanAgent$|LimitAdminSocket$)/;

describe('AdminGate', () => {
  const gateWith = (isLimited: boolean) => {
    const counted: [string, EventInit][] = [];
    const refusals = { count: (key: string, event: EventInit) => void counted.push([key, event]) };
    return { gate: new AdminGate({ mode: { isLimited }, refusals }), counted };
  };

  for (const [method, callers] of RPC_TABLE) {
    if (callers === 'any' || !callers.includes('local')) continue;
    it(`S16: tells ${method} with uid, pid and program`, () => {
      const { gate, counted } = gateWith(false);
      gate.admit(CALLER, method);
      const [[, event] = []] = counted;
      assert.deepEqual(event, {
        type: 'admin.called',
        outcome: 1,
        actor: { kind: 'operator', uid: 7, pid: 11, executable: '/usr/bin/writ' },
        attributes: { method },
      });
    });

    const name = method.split('/').at(-1) ?? '';
    const isOpen = HARMLESS.test(name);
    it(`S16: limited, ${isOpen ? 'lets through' : 'refuses'} ${method}`, () => {
      const { gate, counted } = gateWith(true);
      const denied = { code: 'PERMISSION_DENIED', message: /limited/ };
      if (isOpen) gate.admit(CALLER, method);
      else assert.throws(() => gate.admit(CALLER, method), denied);
      assert.equal(counted[0]?.[1].type, isOpen ? 'admin.called' : 'admin.call_refused');
    });
  }

  it('S16: limited, refuses what nobody has thought of yet', () => {
    const { gate } = gateWith(true);
    assert.throws(() => gate.admit(CALLER, '/writ.admin.v1.NewService/GetAll'));
  });

  it('lets limited callers do nothing that the table has not', () => {
    for (const method of LIMITED_RPCS) {
      const callers = RPC_TABLE.get(method) ?? [];
      assert.ok(callers === 'any' || callers.includes('local'), method);
    }
  });

  it('S16: counts the calls of one user, program and method together, whatever the process', () => {
    const { gate, counted } = gateWith(false);
    const method = '/writ.admin.v1.LockService/ListLocks';
    for (const more of [{}, { pid: 12 }, { uid: 8 }, { executable: '/bin/sh' }])
      gate.admit({ ...CALLER, ...more }, method);
    gate.admit(CALLER, '/writ.admin.v1.LockService/CreateLock');
    assert.deepEqual(new Set(counted.map(([key]) => key)).size, 4);
  });
});
