/**
 * Clients unchanged (G5): each does through the gateway what it does directly, as a login with the same
 * rights, and gets the same.
 */
import assert from 'node:assert/strict';
import { hasProgram, interopPython, skipWithout } from '../fixtures/programs.ts';
import { CLIENT_PROGRAMS, reportOf } from './client-programs.ts';
import { type ClientWorld, pluginWorld, upWorld } from './client-world.ts';
import { describePage } from './page-programs.ts';
import { describeTools } from './postgres-tools.ts';

const WORLDS = [
  { title: 'PostgreSQL 18, by writ up, layout in-place', start: upWorld },
  { title: 'PostgreSQL 15, by the plugin, layout front', start: pluginWorld },
];

for (const { title, start } of WORLDS) {
  describe(`G5 clients of ${title}`, function () {
    this.timeout(120_000);
    let world: ClientWorld | undefined;
    const running = () => {
      if (world === undefined) throw new Error('nothing is running');
      return world;
    };

    before(async function () {
      const python = interopPython();
      if ('reason' in python) skipWithout(this, python.reason);
      world = await start();
    });
    after(() => world?.[Symbol.asyncDispose]());
    beforeEach(() => running().reset());

    for (const program of CLIENT_PROGRAMS) {
      it(`G5 ${program.name}: gets what it gets directly`, async function () {
        this.timeout(400_000);
        const missing = program.needs.find((name) => !hasProgram(name));
        if (missing !== undefined) skipWithout(this, missing);
        const direct = await reportOf(program, running().direct);
        await running().reset();
        const through = await reportOf(program, running().through);
        assert.deepEqual(through, direct);
        const text = JSON.stringify(through);
        assert.ok(text.includes('*******8726'), 'it has read a masked value');
        assert.ok(text.includes('42501'), 'it was refused something');
      });
    }

    describeTools(running);
    if (start === upWorld) describePage(running);
  });
}
