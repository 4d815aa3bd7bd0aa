// What a person does with the dashboard in Chromium, and what they must find.
// Called with the folder of playwright-core, the name of a story, and what the story needs as JSON.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [library, story, told] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(library);
const PATIENCE = 30_000;
const SCREENS = [{ width: 1280, height: 900 }, { width: 1400, height: 900 }, { width: 360, height: 740 }];
// From this width on every table fits.
const WIDE = 1280;

// A page that notes everything a browser complains of.
async function open(browser) {
  const context = await browser.newContext({ viewport: SCREENS[0] });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const complaints = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => complaints.push(`script: ${error.stack}`));
  await page.exposeFunction('complain', (text) => complaints.push(text));
  await page.addInitScript(() => document.addEventListener('securitypolicyviolation', (event) =>
    window.complain(`policy ${event.violatedDirective}: ${event.blockedURI} ${event.sample}`)));
  return { page, complaints };
}

// Looks at the page as it is in both colours and on both screens.
async function looksRight(page, where) {
  const grounds = new Set();
  for (const colorScheme of ['light', 'dark']) {
    for (const screen of SCREENS) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize(screen);
      const found = await page.evaluate(() => ({
        over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        cut: [...document.querySelectorAll('.scroll')].map((table) => table.scrollWidth - table.clientWidth).find((px) => px > 0),
        ground: getComputedStyle(document.body).backgroundColor,
      }));
      assert.ok(!found.cut || screen.width < WIDE, `${where}: a table is cut off by ${found.cut} px at ${screen.width} px`);
      assert.ok(found.over <= 0, `${where} is ${found.over} px too wide at ${screen.width} px, ${colorScheme}`);
      grounds.add(found.ground);
    }
  }
  assert.equal(grounds.size, 2, `${where} has a light and a dark ground: ${[...grounds]}`);
  await page.setViewportSize(SCREENS[0]);
}

const heading = (page, name) => page.getByRole('heading', { level: 1, name, exact: true }).waitFor();
const has = (page, text) => page.locator('#main').getByText(text).first().waitFor();

const stories = {
  // A run at work: one document has failed, one holds scripts, one is very long.
  async live({ page, complaints }, { url, run, worker, rules }) {
    await page.goto(url);
    await heading(page, 'Runs');
    await page.locator('#live.on').waitFor();
    await looksRight(page, 'runs');
    await page.getByRole('link', { name: run }).click();
    await heading(page, run);
    // Nobody reloads: the page is told.
    await has(page, 'torn_tape');
    // A build for tests takes half a minute to ask the rules of a long text after each section.
    await page.locator('.figure', { hasText: 'documents finished' }).getByText('5 / 5').waitFor({ timeout: 120000 });
    await has(page, 'first to last task');
    await looksRight(page, 'a run');

    // What the filters say, with thresholds to try out.
    await page.getByRole('link', { name: 'Report', exact: true }).click();
    await heading(page, `Run ${run}`);
    assert.equal(await page.locator('#thresholds tr.rule').count(), rules);
    const kept = await page.locator('#kept').innerText();
    await page.getByLabel('threshold of plan_coverage').fill('1.1');
    await page.locator('#kept', { hasText: /^0$/ }).waitFor();
    assert.notEqual(kept, '0', 'another threshold is another count');
    await page.locator('#recipe pre', { hasText: 'min_plan_coverage = 1.1' }).waitFor();
    assert.match(await page.locator('#recipe pre').innerText(), /max_residue = 0/, 'the whole table, since a key left out is the default');
    const opens = page.getByRole('button', { name: 'plan_coverage', exact: true });
    await opens.click();
    await page.getByText('filters.min_plan_coverage').waitFor();
    await page.locator('#thresholds th', { hasText: 'rejected alone' }).click();
    await page.getByText('filters.min_plan_coverage').waitFor();
    await looksRight(page, 'a report');
    await page.getByLabel('Breadcrumb').getByRole('link', { name: run }).click();
    await heading(page, run);
    await page.getByRole('link', { name: 'Report', exact: true }).waitFor();

    await page.getByRole('link', { name: 'torn_tape' }).first().click();
    await heading(page, 'Documents');
    assert.equal(await page.locator('tbody tr').count(), 1, 'only what failed for this cause');
    await looksRight(page, 'documents');
    await page.getByRole('link', { name: 'torn', exact: true }).click();
    await heading(page, 'torn');
    await page.locator('.error.box', { hasText: 'torn_tape: the tape <b>tore</b> & the ink ran out' }).waitFor();
    await looksRight(page, 'a failed document');
    await page.getByRole('button', { name: 'Requeue' }).click();
    await page.locator('h1 ~ .pill.accepted').waitFor();
    await has(page, 'anonymous at 127.0.0.1');
    await page.getByRole('heading', { name: 'Earlier revisions' }).waitFor();
    await page.getByRole('link', { name: 'View' }).click();
    await has(page, 'This is an earlier revision');
    await page.locator('.error.box', { hasText: 'torn_tape' }).waitFor();
    await page.goBack();
    await page.locator('h1 ~ .pill.accepted').waitFor();

    // By keyboard: to the search field and to the document.
    await page.locator('#path').getByRole('link', { name: run }).click();
    await heading(page, run);
    await page.getByRole('link', { name: 'Documents', exact: true }).click();
    await heading(page, 'Documents');
    await page.keyboard.press('/');
    await page.keyboard.type('HOSTILE');
    await page.getByText('1 document of 5').waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), 'f-q', 'the field keeps the cursor');
    await page.keyboard.press('Escape');
    assert.notEqual(await page.evaluate(() => document.activeElement.id), 'f-q', 'Esc leaves the search');
    await page.keyboard.press('?');
    await page.getByRole('heading', { name: 'Keys' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('link', { name: '<b>hostile</b>' }).focus();
    await page.keyboard.press('Enter');
    await heading(page, '<b>hostile</b>');
    await has(page, "<script>window.harm = 'row'</script>");
    // The text is open.
    await has(page, "<script>window.harm = 'script'</script>");
    assert.ok(await page.locator('tr', { hasText: 'too_short' }).count() > 0, 'what every rule measured');
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Download' }).click()]);
    assert.match(file.suggestedFilename(), /^[0-9a-f]{32}\.md$/);
    assert.equal(await page.locator('#main').locator('img, script').count(), 0, 'texts stay texts');
    assert.equal(await page.evaluate(() => window.harm), undefined, 'nothing that a model wrote is run');
    const trace = await page.locator('dl a').getAttribute('href');
    assert.match(trace, /^http:\/\/traces\.example\/[0-9a-f]{32}$/);
    await looksRight(page, 'a hostile document');

    // Twenty thousand words, all of them open.
    await page.goBack();
    await page.getByRole('searchbox').fill('long');
    await page.getByRole('link', { name: 'long', exact: true }).click();
    await heading(page, 'long');
    await page.locator('details[open]').first().waitFor();
    const words = await page.locator('.section .text').allInnerTexts();
    assert.ok(words.join(' ').split(/\s+/).length > 18_000, 'the whole text is there');
    await looksRight(page, 'a long document');

    // The row that could not be read says so, and offers nothing that cannot work.
    await page.goto(`${url}/runs/${run}/documents?state=failed`);
    await page.getByRole('link').and(page.locator('td a')).first().click();
    await page.locator('.error.box', { hasText: 'bad_row' }).waitFor();
    assert.equal(await page.getByRole('button', { name: 'Requeue' }).count(), 0);

    await page.getByRole('link', { name: 'Workers' }).click();
    await heading(page, 'Workers');
    const row = page.locator('tr', { hasText: worker });
    await row.getByText('25 %').waitFor();
    await looksRight(page, 'workers');
    await row.getByRole('button', { name: 'Drain' }).click();
    await page.getByRole('button', { name: 'Drain worker' }).click();
    await has(page, 'requested drain of');
    await row.locator('.pill', { hasText: /draining|stopped/ }).waitFor();

    const missing = await page.goto(`${url}/runs/nowhere`).then(() => page.locator('.error.box').innerText());
    assert.match(missing, /no run nowhere/);
    const nothing = await page.goto(`${url}/nothing/here`);
    assert.equal(nothing.status(), 404);
    await heading(page, 'Not found');
    // A browser notes each refusal; this one was asked for.
    const unasked = complaints.filter((text) => !text.includes('404'));
    assert.deepEqual(unasked, []);
    complaints.length = 0;
  },

  async login({ page, complaints }, { url, run, name, token, wrong }) {
    await page.goto(`${url}/runs/${run}`);
    await page.getByLabel('Token', { exact: true }).fill(wrong);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('alert').waitFor();
    await looksRight(page, 'log-in');
    await page.getByLabel('Token', { exact: true }).fill(token);
    await page.getByLabel('Token', { exact: true }).press('Enter');
    await heading(page, 'Runs');
    await page.locator('#who', { hasText: name }).waitFor();
    await page.getByRole('link', { name: run }).click();
    await page.getByRole('button', { name: 'Pause' }).click();
    await has(page, `${name} at 127.0.0.1`);
    await page.getByRole('button', { name: 'Resume' }).waitFor();
    await page.getByRole('button', { name: 'Cancel run' }).click();
    await page.getByRole('button', { name: 'Keep running' }).click();
    assert.equal(await page.locator('.legend', { hasText: 'cancelled' }).locator('a', { hasText: 'cancelled' }).innerText(), 'cancelled 0');
    await page.getByRole('button', { name: 'Cancel run' }).click();
    await page.getByRole('button', { name: 'Cancel 3' }).click();
    await page.locator('.legend a', { hasText: 'cancelled 3' }).waitFor();

    // All that a filter selects, with the count to say yes to.
    await page.locator('.legend a', { hasText: 'cancelled 3' }).click();
    await heading(page, 'Documents');
    await page.getByLabel('Search').fill('row-1');
    await page.getByText('1 document of 3').waitFor();
    await page.getByRole('button', { name: 'Requeue matching' }).click();
    await page.getByText(/^Requeue 1 document \(.*text row-1\)\?/).waitFor();
    await page.getByRole('button', { name: 'Requeue 1' }).click();
    await page.getByText('0 documents of 3').waitFor();
    await page.getByRole('link', { name: run }).click();
    await has(page, /requeued 1 document: all cancelled, text row-1/);
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByLabel('Token', { exact: true }).waitFor();
    await page.goto(url);
    await page.getByLabel('Token', { exact: true }).waitFor();
    assert.deepEqual(complaints, []);
  },
};

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const opened = await open(browser);
try {
  await stories[story](opened, JSON.parse(told));
} catch (error) {
  console.error(error.stack.slice(0, 2000));
  console.error('complaints of the browser:', opened.complaints);
  console.error('where:', opened.page.url());
  console.error((await opened.page.locator('body').innerText().catch(() => '')).slice(0, 3000));
  process.exitCode = 1;
} finally {
  await browser.close();
}
