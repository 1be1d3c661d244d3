/** What runs in a thread of `StatementWorkers`: one text at a time, in order. */
import { parentPort } from 'node:worker_threads';
import { type LongStatement, READY, readLong } from './long-statement.ts';
import { loadParser } from './parser.ts';

const port = parentPort;
if (port === null) throw new Error('runs in a thread');
await loadParser();
// A failure ends the thread, which refuses the statement; the next one gets another thread.
port.on('message', (statement: LongStatement) => port.postMessage(readLong(statement)));
port.postMessage(READY);
