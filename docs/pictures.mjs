// Takes a picture of a page of the dashboard. Called by pictures.sh with the folder of playwright's driver, the address and the file.

import { createRequire } from 'node:module';

const [driver, url, path] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(`${driver}/package`);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });
const page = await browser.newPage({ viewport: { width: 1240, height: 860 }, colorScheme: 'light' });
await page.goto(url);
await page.locator('.dots').waitFor();
await page.screenshot({ path });
await browser.close();
