import assert from 'node:assert/strict';
import { choosePorts } from './ports.ts';

describe('choosePorts', () => {
  it('moves every port with a base', () => {
    const ports = Object.values(choosePorts('20000'));
    assert.deepEqual(
      ports,
      ports.map((_, at) => 20_000 + at),
    );
    assert.equal(ports.length, 8);
  });

  it('has the documented defaults', () => {
    const { server, gatewayPostgres, gatewaySsh } = choosePorts(undefined);
    assert.deepEqual([server, gatewayPostgres, gatewaySsh], [8081, 6432, 2222]);
  });

  for (const bad of ['0', '80', '65529', '1e4', ' 2000', '20000x', '']) {
    it(`refuses ${JSON.stringify(bad)}`, () => {
      assert.throws(() => choosePorts(bad), { code: 'USAGE' });
    });
  }
});
