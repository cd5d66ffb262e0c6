#!/bin/sh
# Brings the worker's checkout, a volume, to the code of its image: sh fill_checkout.sh IMAGE CHECKOUT
# Code is replaced; data, models, params and DVC's files are copied once, and are the checkout's from then on.
set -eu
image=$1 checkout=$2
for name in flows tasks dvc.yaml prefect.yaml .dvcignore pyproject.toml; do
    rm -rf "$checkout/$name.new"
    cp -a "$image/$name" "$checkout/$name.new"
    rm -rf "${checkout:?}/$name"
    mv "$checkout/$name.new" "$checkout/$name"
done
for name in data models params.yaml .dvc; do
    if [ ! -e "$checkout/$name" ]; then
        rm -rf "$checkout/$name.new"
        cp -a "$image/$name" "$checkout/$name.new"
        mv "$checkout/$name.new" "$checkout/$name"
    fi
done
