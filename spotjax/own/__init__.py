"""Spotting in one's own videos: scores, results to keep, pictures and the page.

`spotjax.spot` is the command and the function; `data_prep` reads the video and makes the features.
"""
