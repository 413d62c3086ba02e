"""The OpenVINO runtime: conversion, cache and inference on a CPU."""
