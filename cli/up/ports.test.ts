import assert from 'node:assert/strict';
import { choosePorts } from './ports.ts';

describe('choosePorts', () => {
  it('moves every port with a base', () => {
    const ports = Object.values(choosePorts('20000'));
    assert.deepEqual(ports, [20_000, 20_001, 20_002, 20_003, 20_004, 20_005]);
  });

  it('has the documented defaults', () => {
    const { server, gatewayPostgres } = choosePorts(undefined);
    assert.deepEqual([server, gatewayPostgres], [8081, 6432]);
  });

  for (const bad of ['0', '80', '65531', '1e4', ' 2000', '20000x', '']) {
    it(`refuses ${JSON.stringify(bad)}`, () => {
      assert.throws(() => choosePorts(bad), { code: 'USAGE' });
    });
  }
});
