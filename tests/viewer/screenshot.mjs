// node screenshot.mjs '{"executablePath": a Chromium, "url": page.html?picture.dzi,
//   "view": {"width", "height"},  of the page, px
//   "whole": PNG to write: the picture as the viewer opens it
//   "native": PNG to write: a pixel of the picture to a pixel of the page
//   "origin": [x, y]}'            the picture's pixel in the top left corner of "native"
// The first error of the page, or request that fails, is this program's error.

import { chromium } from 'playwright-core';

const { executablePath, url, view, whole, native, origin } = JSON.parse(process.argv[2]);

async function takeScreenshots(page) {
  await page.goto(url);
  await page.evaluate(() => new Promise(resolve => viewer.whenFullyLoaded(resolve)));
  await page.screenshot({ path: whole });

  await page.evaluate(async ([x, y]) => {
    const viewport = viewer.viewport;
    const { x: width, y: height } = viewport.getContainerSize();
    viewport.zoomTo(viewport.imageToViewportZoom(1), null, true);
    viewport.panTo(viewport.imageToViewportCoordinates(x + width / 2, y + height / 2), true);
    // Until the new view is first drawn, the viewer still speaks of the old one.
    await new Promise(resolve => viewer.addOnceHandler('update-viewport', resolve));
    await new Promise(resolve => viewer.whenFullyLoaded(resolve));
  }, origin);
  await page.screenshot({ path: native });
}

// Playwright starts Chromium without its sandbox, which root could not use.
const browser = await chromium.launch({ executablePath });
try {
  const page = await browser.newPage({ viewport: view });
  const problem = new Promise((_, reject) => {
    const fail = text => reject(new Error(text));
    page.on('response', response => {
      if (response.status() >= 400) fail(`${response.url()}: ${response.status()}`);
    });
    page.on('requestfailed', request => fail(`${request.url()}: ${request.failure().errorText}`));
    page.on('console', message => {
      if (message.type() === 'error') fail(message.text());
    });
    page.on('pageerror', reject);
  });
  await Promise.race([problem, takeScreenshots(page)]);
} finally {
  await browser.close();
}
